"""Live audio: pipes, microphone, loudspeaker."""
