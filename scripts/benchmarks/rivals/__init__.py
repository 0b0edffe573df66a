"""What this package is compared with: other papers' attentions, each in its fastest form, and the tasks."""
