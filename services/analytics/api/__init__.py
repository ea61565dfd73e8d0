"""Analytics over gRPC: protos and values."""
