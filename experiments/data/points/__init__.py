"""Point clouds: meshes and generated shapes."""
