// Drives the published TypeScript clients, unmodified, and says what became of each method.
//
// Reads {"url", "key", "org"} from standard input and prints {"sdk": {method: outcome},
// "sdk_surface": [...], "rest_surface": [...]}. An outcome is "ok", the server's error code, or the
// text of what went wrong.
import * as rest from "@mesadev/rest";
import { Mesa } from "@mesadev/sdk";

const ROOT = "z".repeat(32);
const ADA = { name: "Ada", email: "ada@example.org" };
const README = Buffer.from("hello\n").toString("base64");
const outcomes = {};

async function tried(name, work, check) {
  try {
    const result = await work();
    outcomes[name] = check(result) ? "ok" : `not as expected: ${JSON.stringify(result)}`;
    return result;
  } catch (error) {
    outcomes[name] = error?.status ? error.code : `${error}`;
    return undefined;
  }
}

async function drive({ url, key, org }) {
  const mesa = new Mesa({ apiKey: key, apiUrl: `${url}/v1`, vcsUrl: url });
  const repo = "ts";
  await tried("whoami", () => mesa.whoami(), (r) => r.org.slug === org && r.key_id);
  await tried("resolveOrg", () => mesa.resolveOrg(), (r) => r === org);
  const token = await tried(
    "tokens.create",
    () => mesa.tokens.create({ scopes: ["read"], ttl_seconds: 60 }),
    (r) => r.token.split(".").length === 3,
  );
  const reader = new Mesa({ apiKey: token.token, apiUrl: `${url}/v1`, vcsUrl: url });
  if ((await reader.whoami()).scopes.join() !== "read") outcomes["tokens.create"] = "not taken";

  const made = await tried(
    "apiKeys.create",
    () => mesa.apiKeys.create({ name: "k", scopes: ["read"] }),
    (r) => r.key.startsWith("mesa_"),
  );
  await tried("apiKeys.list", () => mesa.apiKeys.list(), (r) => r.api_keys.some((k) => k.id === made.id));
  await tried("apiKeys.revoke", () => mesa.apiKeys.revoke({ id: made.id }), (r) => r.success);

  await tried("repos.create", () => mesa.repos.create({ name: "ts-before" }), (r) => r.head_change_id === ROOT);
  await tried("repos.update", () => mesa.repos.update({ repo: "ts-before", name: repo }), (r) => r.name === repo);
  await tried("repos.get", () => mesa.repos.get({ repo }), (r) => r.default_bookmark === "main");
  await tried("repos.list", () => mesa.repos.list({}), (r) => r.repos.some((each) => each.name === repo));
  await tried("org.get", () => mesa.org.get(), (r) => r.num_repos >= 1);

  const first = await tried(
    "changes.create",
    () =>
      mesa.changes.create({
        repo,
        base_change_id: ROOT,
        message: "first",
        author: ADA,
        files: [{ path: "README.md", content: README, encoding: "base64" }],
      }),
    (r) => r.message === "first" && r.parents[0] === ROOT,
  );
  const change_id = first.id;
  await tried("changes.get", () => mesa.changes.get({ repo, change_id }), (r) => r.files[0] === "README.md");
  await tried(
    "changes.patch",
    () => mesa.changes.patch({ repo, change_id, message: "better" }),
    (r) => r.id === change_id && r.message === "better",
  );
  await tried(
    "content.get",
    () => mesa.content.get({ repo, change_id, path: "README.md" }),
    (r) => r.type === "file" && r.content === README,
  );
  await tried(
    "diffs.get",
    () => mesa.diffs.get({ repo, base_change_id: ROOT, head_change_id: change_id }),
    (r) => r.entries[0].status === "added" && r.stats.additions === 1,
  );
  const bookmark = "feat/x y".replace(" ", "-");
  await tried(
    "bookmarks.create",
    () => mesa.bookmarks.create({ repo, name: bookmark, change_id }),
    (r) => r.change_id === change_id && !r.is_default,
  );
  await tried("bookmarks.get", () => mesa.bookmarks.get({ repo, bookmark }), (r) => r.name === bookmark);
  await tried("bookmarks.list", () => mesa.bookmarks.list({ repo, glob: "feat*" }), (r) => r.bookmarks.length === 1);
  await tried("changes.list", () => mesa.changes.list({ repo, bookmark }), (r) => r.changes[0].id === change_id);

  const webhookTargetId = "w";
  for (const [name, work] of Object.entries({
    "bookmarks.move": () => mesa.bookmarks.move({ repo, bookmark, change_id }),
    "bookmarks.merge": () => mesa.bookmarks.merge({ repo, source: bookmark, target: "main" }),
    "bookmarks.delete": () => mesa.bookmarks.delete({ repo, bookmark }),
    "repos.syncUpstream": () => mesa.repos.syncUpstream({ repo, direction: "pull" }),
    "repos.getUpstreamSync": () => mesa.repos.getUpstreamSync({ repo, syncId: "s" }),
    "repos.listUpstreamSyncs": () => mesa.repos.listUpstreamSyncs({ repo }),
    "webhookTargets.list": () => mesa.webhookTargets.list(),
    "webhookTargets.create": () => mesa.webhookTargets.create({ url: "https://example.org/hook" }),
    "webhookTargets.update": () => mesa.webhookTargets.update({ webhookTargetId, name: "n" }),
    "webhookTargets.delete": () => mesa.webhookTargets.delete({ webhookTargetId }),
  })) {
    await tried(name, work, () => true);
  }
  await tried("repos.delete", () => mesa.repos.delete({ repo }), (r) => r.success);
}

function sdkSurface() {
  // With an organisation given, the constructor asks nobody.
  const mesa = new Mesa({ apiKey: "mesa_x", apiUrl: "http://127.0.0.1:1/v1", vcsUrl: "http://127.0.0.1:1", org: "o" });
  const inner = new Set([
    "constructor", "createFs", "fetchWhoAmI", "resolveKeyId", "resolveOrgFromWhoAmI", "signToken",
  ]);
  const found = Object.getOwnPropertyNames(Mesa.prototype).filter((name) => !inner.has(name));
  const hidden = new Set(["restClient"]);
  for (const [name, value] of Object.entries(mesa)) {
    if (hidden.has(name) || value === null || typeof value !== "object" || value instanceof Promise) continue;
    const members = new Set([...Object.keys(value), ...Object.getOwnPropertyNames(Object.getPrototypeOf(value))]);
    for (const member of members) {
      if (typeof value[member] === "function" && !(member in Object.prototype)) found.push(`${name}.${member}`);
    }
  }
  return found.sort();
}

function restSurface() {
  const helpers = new Set(["createClient", "createConfig"]);
  return Object.keys(rest).filter((name) => typeof rest[name] === "function" && !helpers.has(name)).sort();
}

let text = "";
for await (const chunk of process.stdin) text += chunk;
const request = JSON.parse(text);
const stopped = [];
if (request.url) await drive(request).catch((error) => stopped.push(error.stack));
console.log(JSON.stringify({ stopped, sdk: outcomes, sdk_surface: sdkSurface(), rest_surface: restSurface() }));
