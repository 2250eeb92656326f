"""Retrieval by emotion from colour and texture (Li, Xu, Duan 2019), lesson 08."""
