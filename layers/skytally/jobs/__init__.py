"""What ran on which cloud, as PanDA, DIRAC and HTCondor say."""
