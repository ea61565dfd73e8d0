"""The services. They talk gRPC only; no service imports another."""
