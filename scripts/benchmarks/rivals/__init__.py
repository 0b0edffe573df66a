"""What this package is measured beside: other papers' attentions, each in its fastest form, and the tasks."""
