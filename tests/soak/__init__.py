"""The proof of the durable reporters: processes killed at random moments, and an oracle that stands outside."""
