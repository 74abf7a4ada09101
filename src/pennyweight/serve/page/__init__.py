"""The page that people use in a browser: plain HTML, CSS and JavaScript, served unchanged.

index.html, *.js   classify texts and CSV files             docs.html, docs.js  the API, drawn from /openapi.json
style.css          one style sheet, light and dark          static_files        the addresses of these files
"""
