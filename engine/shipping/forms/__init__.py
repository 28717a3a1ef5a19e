"""The forms of `store.catalog.export_forms`, a file for each kind: `write(work)` fills the empty folder
`work.folder` and answers what a reader should know.
"""
