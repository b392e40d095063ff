"""Helpers that several test folders share; nothing here is a test.

- oracles: Grad-CAM written independently of the code under test; seeded networks and images.
- settings: `settings(**changes)`, a model's `Settings`. own_network: a user's network with seven classes.
- encoding: encode and decode images, PNG chunks. hostile: malicious files and the statuses that may answer them.
- fake_server: a stand-in for a model's server. weights_site: a server with weights files. state_dicts: their bytes.
- http_client: requests that ignore proxies. grpc_client: client of TorchServe's gRPC services.
- served: a model on a running server, its expected responses, and checks that compare the two.
- lens_page: page object of the page. container: a container of the image. manifests: Kubernetes manifests.

Modules here import the product and one another, never a test or a fixture. `oracles` imports neither.
"""
