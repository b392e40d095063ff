"""Helpers that several test folders share; nothing here is a test.

- oracles: Grad-CAM written independently of the code under test; seeded networks and images.
- settings: `settings(**changes)`, a model's `Settings`. pipelines: pipelines of a small seeded network.
- own_network: a user's network with seven classes. state_dicts: weights files.
- encoding: encode and decode images, PNG chunks. hostile: malicious files and the statuses that may answer them.
- image_files, jpeg_files: image files written byte by byte. split_networks: networks for tests of the split.
- kserve: requests and results in KServe's protocols. answers: one answer in each protocol.
- http_client: requests that ignore proxies. grpc_client: client of TorchServe's gRPC services.
- served: a model on a running server, its expected responses, and checks that compare the two.
- fake_server: a stand-in for a model's server. lens_server: the page's server in front of a simulated TorchServe.
- fake_torchserve: a stand-in for TorchServe behind the proxy. proxy: the image's HAProxy on other ports.
- weights_site: a server that publishes weights.
- lens_page: page object of the page. container: a container of the image. manifests: Kubernetes manifests.

Modules here import the product and one another, never a test or a fixture. `oracles` imports neither.
"""
