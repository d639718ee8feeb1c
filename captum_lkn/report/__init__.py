"""Reports: a result as one page of HTML that needs no network and no other file.

A page holds the sentence or image, the strongest interactions as a table that sorts and filters, and pictures. It is a
method of the results: ``found.report("found.html")``.

============  ==============================================================================
``pages``     the reports of each kind of result
``explorer``  words or an image with a table: what is pointed at lights up
``regions``   an image and the outlines of its parts
``figures``   pictures as SVG in the page's own colours
``page``      the frame of a page: style, script, and what a browser may load
============  ==============================================================================
"""
