"""Labelled texts: read . labels . clean . split . batch . sample/"""
