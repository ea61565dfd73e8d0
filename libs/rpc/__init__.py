"""gRPC as this project speaks it: servers, channels, errors and identities."""
