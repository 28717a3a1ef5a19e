"""Documents that cross a border as JSON, each as one type: what a job leaves, what the store keeps, what a
screen reads. Types alone, and the readers of shapes that older stores hold; who writes a document lies
elsewhere.
"""
