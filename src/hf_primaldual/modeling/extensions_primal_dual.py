"""
Transforms from outside of this package, by the name under which a configuration's `transforms` lists them.

A checkpoint that uses one carries its file, and its copy of this file imports it.
"""

EXTENSIONS = {}
