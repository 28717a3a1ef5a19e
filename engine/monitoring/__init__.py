"""What is measured of the requests that an endpoint answered, and of the reference that they are held
against."""
