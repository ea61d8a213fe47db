"""Describes faces in words: pictures to attributes, attributes to sentences, sentences back to attributes."""
