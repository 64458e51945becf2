"""What runs inside containers to set an environment up, and what its Compose files pin."""
