"""Audio as it is spoken: pipes, microphone, loudspeaker."""
