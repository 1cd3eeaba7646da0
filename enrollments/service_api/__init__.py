"""What back ends call: enrollments, groups and registration records, as unmodified management clients expect them."""
