"""Who reads exported folders: files that import a consumer's library and nothing of this project."""
