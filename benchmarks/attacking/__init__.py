"""Searches for ways around a prefix: words and vectors by which a protected model draws a person again.

Whoever has the files can do all of this. It is here so that everybody can measure what it would get them.
"""
