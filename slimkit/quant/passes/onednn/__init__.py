"""What ``LegalizeOnednn`` is made of: one rewrite a file, with the defect of Paddle's int8 passes it avoids."""
