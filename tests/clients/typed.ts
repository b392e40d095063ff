// Calls the operations through the types that openapi-typescript generates: typed.js HOST:PORT MODEL IMAGE
import { readFile } from "node:fs/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const [address, model, path] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: `http://${address}` });
const image = (await readFile(path)).toString("base64");
const params = { path: { model } };

const single = await client.POST("/predictions/{model}", { params, body: { image, topk: 3, explain: 2 } });
const answer: components["schemas"]["Answer"] | undefined = single.data as components["schemas"]["Answer"] | undefined;

const v1 = await client.POST("/v1/models/{model}:predict", { params, body: { instances: [{ image, method: "gradcam++" }] } });

const tensor = { name: "image", shape: [1], datatype: "BYTES" as const, data: [image] };
const v2 = await client.POST("/v2/models/{model}/infer", { params, body: { inputs: [tensor] } });
const rejected = await client.POST("/v2/models/{model}/infer", { params, body: { inputs: [tensor], parameters: { topk: 0 } } });
const failure: components["schemas"]["ErrorV2"] | undefined = rejected.error as components["schemas"]["ErrorV2"] | undefined;

console.log(JSON.stringify({
  single: answer?.predictions[0].label,
  explained: answer?.explanations.length,
  v1: v1.data?.predictions.length,
  v2: typeof v2.data === "object" ? v2.data.outputs.map((output) => output.name) : null,
  error: failure?.code,
}));
