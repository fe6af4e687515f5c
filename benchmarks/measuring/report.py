"""Take measurements into benchmarks/results.json, and make docs/benchmarks.md of it.

    benchmarks/report [MEASUREMENT.json …] [--check]

Without a measurement the page is made anew; with --check nothing is written, and the exit status is
1 when the page is not what the results make.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from measuring import page, results
from measuring.neighbours import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measurements", nargs="*", type=Path, metavar="MEASUREMENT.json")
    parser.add_argument("--check", action="store_true", help="only compare")
    parser.add_argument("--json", type=Path, default=results.RESULTS, metavar="OUT")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="OUT")
    options = parser.parse_args()
    new = [json.loads(path.read_text()) for path in options.measurements]
    documents = results.merge(results.load(options.json), new)
    text = page.page(documents)
    if options.check:
        if not options.page.exists() or options.page.read_text() != text:
            print("the page is not what the results make: run benchmarks/report", file=sys.stderr)
            return 1
        return 0
    results.save(options.json, documents)
    options.page.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
