"""The search service: what stands where, beneath the operator's roots."""
