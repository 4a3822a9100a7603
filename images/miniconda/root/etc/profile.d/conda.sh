# A login has conda, and the environment base: /etc/profile has just set the PATH anew.
if [ -d /opt/conda/bin ]; then
    PATH=/opt/conda/bin:$PATH
fi
if [ -f /opt/conda/etc/profile.d/conda.sh ]; then
    . /opt/conda/etc/profile.d/conda.sh
    conda activate base
fi
