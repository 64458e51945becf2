// One of the published servers of this folder, by its package's name: `node serve.mjs NAME [ARGUMENT…]`.
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(import.meta.url);
if (process.argv.includes("--version")) {
  console.log(require("@modelcontextprotocol/server-everything/package.json").version);
} else {
  const [name] = process.argv.splice(2, 1);
  const folder = path.join(import.meta.dirname, "node_modules", name);
  const { bin } = require(path.join(folder, "package.json"));
  const script = path.join(folder, typeof bin === "string" ? bin : Object.values(bin)[0]);
  process.argv[1] = script;
  await import(pathToFileURL(script));
}
