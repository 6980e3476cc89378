"""Recipes: each module has one function `config() -> TrainConfig`; variants are arguments and `replace`."""
