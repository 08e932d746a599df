// Writes dist/source-hash.txt: a hash of what the build was made from, so that a test can tell stale assets.
// The same in Python: tests/ui/test_assets.py.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

const files = [
  "index.html",
  "package-lock.json",
  ...readdirSync(join(root, "src"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join("/")),
].sort();

const hash = createHash("sha256");
for (const file of files) {
  hash.update(`${file}\n`);
  hash.update(createHash("sha256").update(readFileSync(join(root, file))).digest("hex") + "\n");
}
writeFileSync(join(root, "dist", "source-hash.txt"), hash.digest("hex") + "\n");
