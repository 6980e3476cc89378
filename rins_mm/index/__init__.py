"""Pictures as an index on disk that is searched by words, pictures and what is known of them."""
