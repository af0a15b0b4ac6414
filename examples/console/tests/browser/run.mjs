// Drives Chromium through the pages, as people would.
// node run.mjs GROUP [WAYS], with CHROMIUM, PLAYWRIGHT, AXE, PORT and LINKS in the environment.
import path from "node:path";
import { pathToFileURL } from "node:url";
import { end } from "./people.mjs";

await import(pathToFileURL(path.join(import.meta.dirname, `${process.argv[2]}.mjs`)));
await end();
