"""Finding one's way: free ground, distances over it, an agent's motion, and an environment of `gymnasium`."""
