// The Inspector, which knows no --version of its own: `inspector.mjs --cli URL …`. The TypeScript SDK lies beside it.
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const folder = path.join(import.meta.dirname, "node_modules", "@modelcontextprotocol", "inspector");
const { bin, version } = createRequire(import.meta.url)(path.join(folder, "package.json"));
if (process.argv.includes("--version")) {
  console.log(version);
} else {
  process.argv[1] = path.join(folder, typeof bin === "string" ? bin : Object.values(bin)[0]);
  await import(pathToFileURL(process.argv[1]));
}
