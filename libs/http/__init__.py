"""The parts that HTTP edges share: a server with the life of a gRPC one, and its span and metrics."""
