"""keraship.exporter"""
