"""What the APIs say of themselves, as one OpenAPI 3.1 document and as a page for people."""
