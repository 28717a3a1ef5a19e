"""The tab that shows overfitting and what was learned by heart."""
