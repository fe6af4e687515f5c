"""What several test folders share. ``from support.polling import poll`` and the like."""
