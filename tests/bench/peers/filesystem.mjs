// The official filesystem server, which knows no --version.
import { createRequire } from "node:module";

if (process.argv.includes("--version")) {
  const require = createRequire(import.meta.url);
  console.log(require("@modelcontextprotocol/server-filesystem/package.json").version);
} else {
  await import("@modelcontextprotocol/server-filesystem/dist/index.js");
}
