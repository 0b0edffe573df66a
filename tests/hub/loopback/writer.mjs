// Pushes the files of a folder in one commit with npm's @huggingface/hub, then takes one of them away:
// writer.mjs MODULE ENDPOINT TOKEN REPOSITORY FOLDER REMOVED
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [module, hubUrl, accessToken, name, folder, removed] = process.argv.slice(2);
const { createRepo, commit } = await import(pathToFileURL(module).href);
// Its Xet speaks HTTP to a content store, which the test Hub has none of.
const target = { repo: { type: "model", name }, accessToken, hubUrl, useXet: false };
await createRepo(target);
const operations = readdirSync(folder).map((path) => ({
  operation: "addOrUpdate",
  path,
  content: new Blob([readFileSync(join(folder, path))]),
}));
const done = await commit({ ...target, title: "from npm", operations });
const taken = [{ operation: "delete", path: removed }];
await commit({ ...target, title: "less", operations: taken, parentCommit: done.commit.oid });
console.log(done.commit.oid);
