"""The owner and its suppliers: finding, hiring, replacing, founding anew.

Here: from a key and one address to sessions with everybody (find), contracts (hire), the first
family (create), another supplier for a position (replace), the bench and renewals while mounted
(staffing), a family of those that are left (refound), a vault from blocks alone (recovery).

Not here: who is to be replaced (rebuild/plan.py decides), and what suppliers do among themselves.
"""
