"""The network: a hand-written Qwen2, its cache, sampling, adapters, loss, files. Knows nothing of news."""
