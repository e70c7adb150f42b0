"""keraship.client"""
