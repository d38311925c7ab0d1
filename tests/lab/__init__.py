"""The lab: a machine inside the machine in which integration tests meet real programs and real proxies."""
