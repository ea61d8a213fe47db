"""Lets several processes learn one prefix."""
