"""Call the operations through the client that openapi-python-client generates: generated.py HOST:PORT MODEL IMAGE."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

from generated_client import Client, models
from generated_client.api.inference import predict
from generated_client.api.kserve import infer, predict_v1

address, model, path = sys.argv[1:]
client = Client(base_url=f"http://{address}")
image = base64.b64encode(Path(path).read_bytes()).decode()

answer = predict.sync(model, client=client, body=models.Request(image=image, topk=3, explain=2))
assert isinstance(answer, models.Answer)

instance = models.Instance(image=image, method=models.MethodName.GRADCAM_PLUS_PLUS)
predictions = predict_v1.sync(model, client=client, body=models.Instances(instances=[instance]))
assert isinstance(predictions, models.PredictionsV1)

tensor = models.ImageTensor(name="image", shape=[1], datatype="BYTES", data=[image])
response = infer.sync(model, client=client, body=models.InferRequest(inputs=[tensor]))
assert isinstance(response, models.InferResponse)
parameters = models.Parameters(topk=0)
rejected = infer.sync(model, client=client, body=models.InferRequest(inputs=[tensor], parameters=parameters))
assert isinstance(rejected, models.ErrorV2)

print(
    json.dumps(
        {
            "single": answer.predictions[0].label,
            "explained": len(answer.explanations),
            "v1": len(predictions.predictions),
            "v2": [str(output.name) for output in response.outputs],
            "error": str(rejected.code),
        }
    )
)
