"""How a policy is optimised: a module for each kind of method, and what they share."""
