"""keraship.models"""
