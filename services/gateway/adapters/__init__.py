"""What the gateway reaches over the wire."""
