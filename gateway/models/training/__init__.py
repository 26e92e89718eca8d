"""The bundled model's making: corpus, tokenizer, training, export and evaluation."""
