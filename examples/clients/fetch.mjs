// Classify and explain an image with fetch in Node 18 or newer: fetch.mjs [HOST:PORT MODEL IMAGE]
import { readFile } from "node:fs/promises";

const given = process.argv.slice(2);
const [address, model, path] = given.length ? given : ["127.0.0.1:8080", "efficientnet_lite0", "examples/chelsea.jpg"];

const response = await fetch(`http://${address}/predictions/${model}`, {
  method: "POST",
  headers: { "Content-Type": "application/octet-stream", "Gradcam-Explain": "2" },
  body: await readFile(path),
});
const answer = await response.json();
if (!response.ok) throw new Error(answer.error?.message ?? answer.message);
const [best] = answer.predictions;
console.log(best.label, best.probability, answer.explanations.length);
