"""Estimators with scikit-learn's interface whose hyperparameters are tuned by gradients."""
